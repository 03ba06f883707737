from kcore._native.fileops import FileOps

class PosixOps(FileOps): ...

POSIX: PosixOps

def sync_filesystem(fd: int) -> None: ...
