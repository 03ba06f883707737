"""Listeners and connections of one broker: bind, accept within limits, sweep, stop.

Sockets are accepted here and not by the loop's own server, because only so can accepting pause:
out of descriptors means waiting, never spinning, and never taking the descriptors that segments
and the metadata store still need.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kbroker.base import limits
from kbroker.base.clock import Clock
from kbroker.base.metrics import BrokerMetrics
from kbroker.broker.session import Session, address_of
from kcore._native.framing import ReceivePool

if TYPE_CHECKING:
    from kbroker.broker.dispatch import Dispatcher
    from kbroker.broker.services import Services

log = logging.getLogger("kbroker.server")

_ACCEPTS_PER_WAKE_UP = 64
_BACKLOG = 4096  # the system's own limit (net.core.somaxconn) may be lower
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_COMPLAINT_INTERVAL_MS = 1_000
_PEERS_REMEMBERED_MAX = 1_024
_FD_LIMIT_MAX = 1 << 30


class ServerLimits(NamedTuple):
    """The part of the configuration that connections obey."""

    frame_bytes_max: int = limits.FRAME_BYTES_HARD_MAX
    connections_max: int = limits.CONNECTIONS_MAX
    connections_per_ip_max: int = limits.CONNECTIONS_PER_IP_MAX
    idle_ms_max: int = 600_000


class Listener:
    """One bound socket. `name` is the listener's name in the configuration."""

    __slots__ = ("host", "name", "port", "sock")

    def __init__(self, name: str, host: str, port: int) -> None:
        """Raises OSError with the address in its text when it cannot be bound."""
        self.name = name
        try:
            self.sock = _listening_socket(host, port)
        except OSError as error:
            why = error.strerror or str(error)
            if error.errno == errno.EADDRINUSE:
                why += " by another process; stop that one or take another port (0 is any free one)"
            raise OSError(error.errno, f"cannot listen on {name}://{host}:{port}: {why}") from error
        self.host = host
        self.port = int(self.sock.getsockname()[1])


class Server:
    """All connections of one broker. What a session needs to know of its broker is here."""

    def __init__(
        self,
        *,
        clock: Clock,
        metrics: BrokerMetrics,
        flexible_from: bytes,
        server_limits: ServerLimits,
    ) -> None:
        self.clock = clock
        self.metrics = metrics
        self.flexible_from = flexible_from
        self.reconfigure(server_limits)
        self.pool = ReceivePool(limits.RECEIVE_BUFFER_BYTES)
        self.now_ms = clock.monotonic_ms()  # coarse: as of the last sweep
        self.dispatcher: Dispatcher
        self.services: Services
        self.listeners: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop
        self._sessions: set[Session] = set()
        self._taken = 0  # accepted and not gone, whether or not the loop has them yet
        self._accepted_since_sweep = 0
        self._per_ip: dict[str, int] = {}
        self._over_budget: dict[Session, None] = {}  # in the order they came
        self._finisher: Session | None = None
        self._complaints: dict[str, tuple[int, int]] = {}
        self._arrivals: set[asyncio.Task[None]] = set()
        self._sweep_handle: asyncio.TimerHandle | None = None
        self._accept_pauses: list[asyncio.TimerHandle] = []
        fds = _fd_limit()
        self._fd_ceiling = fds - limits.FDS_RESERVED
        # The other half is for segments.
        self._fds_max = max(fds // 2 - limits.FDS_RESERVED, fds // 4)
        self._started = False
        self._stopping = False

    # ------------------------------------------------------------- life

    def reconfigure(self, server_limits: ServerLimits) -> None:
        """Holds for connections that come; nobody who is in is sent away."""
        self._limits = server_limits
        self.frame_bytes_max = server_limits.frame_bytes_max
        self.idle_ms_max = server_limits.idle_ms_max

    def bind(self, endpoints: Sequence[tuple[str, str, int]]) -> None:
        """Takes the ports (0 becomes a real one) without accepting yet: advertised addresses are
        known before anything that may advertise them is built."""
        try:
            for name, host, port in endpoints:
                self.listeners.append(Listener(name, host, port))
        except OSError:
            for listener in self.listeners:
                listener.sock.close()
            raise

    def start(self, services: Services, dispatcher: Dispatcher) -> None:
        self.services = services
        self.dispatcher = dispatcher
        self._loop = asyncio.get_running_loop()
        for listener in self.listeners:
            self._loop.add_reader(listener.sock, self._accept, listener)
        self._tick()
        self._started = True

    async def stop(self, finish_parked: Callable[[], None]) -> None:
        """Takes no more connections and requests, lets `finish_parked` answer what is parked, and
        gives clients a moment to take their answers. Harmless twice."""
        if self._stopping:
            return
        self._stopping = True
        if self._started:
            for listener in self.listeners:
                self._loop.remove_reader(listener.sock)
        for listener in self.listeners:
            listener.sock.close()
        for handle in (self._sweep_handle, *self._accept_pauses):
            if handle is not None:
                handle.cancel()
        if self._arrivals:
            await asyncio.gather(*self._arrivals, return_exceptions=True)
        for session in self._sessions:
            session.hold_for_stop()
        finish_parked()
        give_up_at_ms = self.clock.monotonic_ms() + limits.STOP_GRACE_MS_MAX
        while self._sessions and self.clock.monotonic_ms() < give_up_at_ms:
            for session in list(self._sessions):
                session.wind_up()
            await asyncio.sleep(0.005)
        for session in list(self._sessions):
            session.abort()
        await asyncio.sleep(0)  # lets connection_lost run

    # ------------------------------------------------------------- accepting

    def _accept(self, listener: Listener) -> None:
        for _ in range(_ACCEPTS_PER_WAKE_UP):
            if self._accepted_since_sweep >= limits.ACCEPTS_PER_SWEEP_MAX:
                self._pause_accepting(listener, "too many new connections at once")
                return
            try:
                sock, peer = listener.sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                self._pause_accepting(listener, f"cannot accept: {error.strerror}")
                return
            self._accepted_since_sweep += 1
            if sock.fileno() >= self._fd_ceiling:
                sock.close()
                self.metrics.connections_refused += 1
                self._pause_accepting(listener, "too few file descriptors left")
                return
            refusal = self._refusal(address_of(peer))
            if refusal is not None:
                sock.close()
                self.metrics.connections_refused += 1
                self.complain(address_of(peer), refusal)
                continue
            self._welcome(sock, listener, address_of(peer))

    def _refusal(self, ip: str) -> str | None:
        if self._taken >= self._limits.connections_max:
            return f"refused: {self._limits.connections_max} connections are open"
        if self._taken >= self._fds_max:
            return f"refused: {self._taken} connections are open, half of RLIMIT_NOFILE"
        if self._per_ip.get(ip, 0) >= self._limits.connections_per_ip_max:
            return f"refused: {self._limits.connections_per_ip_max} connections of this address"
        return None

    def _welcome(self, sock: socket.socket, listener: Listener, ip: str) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # gone already: the loop will find out
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.metrics.connections_accepted += 1
        self._taken += 1
        self._per_ip[ip] = self._per_ip.get(ip, 0) + 1
        session = Session(self, listener.name, ip, sock)
        arrival = self._loop.create_task(self._attach(session, sock))
        self._arrivals.add(arrival)
        arrival.add_done_callback(self._arrivals.discard)

    async def _attach(self, session: Session, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: session, sock)
        except OSError:
            sock.close()
            if session not in self._sessions:
                self._give_place_back(session.peer)

    def _pause_accepting(self, listener: Listener, why: str) -> None:
        """Leaves the newcomers in the backlog for a moment; spinning would starve who is in."""
        self.complain("listener " + listener.name, why)
        self._loop.remove_reader(listener.sock)
        pause = self._loop.call_later(
            limits.ACCEPT_PAUSE_MS / 1000, self._resume_accepting, listener
        )
        self._accept_pauses = [h for h in self._accept_pauses if not h.cancelled()][-8:]
        self._accept_pauses.append(pause)

    def _resume_accepting(self, listener: Listener) -> None:
        if not self._stopping:
            self._loop.add_reader(listener.sock, self._accept, listener)

    # ------------------------------------------------------------- called by sessions

    def opened(self, session: Session) -> None:
        self._sessions.add(session)
        self.metrics.connections_open += 1
        if self._stopping:
            session.abort()

    def closed(self, session: Session) -> None:
        self._sessions.discard(session)
        self._over_budget.pop(session, None)
        self.metrics.connections_open -= 1
        self._give_place_back(session.peer)
        if self._finisher is session:
            self._finisher = None
        self._share_budget()

    def _give_place_back(self, ip: str) -> None:
        self._taken -= 1
        left = self._per_ip.get(ip, 0) - 1
        if left > 0:
            self._per_ip[ip] = left
        else:
            self._per_ip.pop(ip, None)

    def may_read(self, session: Session) -> bool:
        """Over the memory budget only one connection reads on, so that its request gets done and
        its bytes come free; if all of them stopped, none ever would. The others wait in line."""
        if self.pool.held_bytes <= limits.RECEIVED_BYTES_MAX:
            return True
        if self._finisher is None:
            self._finisher = session
            session.finishing = True
        if self._finisher is session:
            return True
        self._over_budget[session] = None
        return False

    def request_taken(self, session: Session) -> None:
        session.finishing = False
        if self._finisher is session:
            self._finisher = None
            self._share_budget()

    def _share_budget(self) -> None:
        if not self._over_budget:
            return
        if self.pool.held_bytes < limits.RECEIVED_BYTES_RESUME:
            waiting, self._over_budget = self._over_budget, {}
            for session in waiting:
                session.budget_freed()
        elif self._finisher is None:
            session = next(iter(self._over_budget))
            del self._over_budget[session]
            session.budget_freed()

    def complain(self, peer: str, text: str) -> None:
        """One line a second and peer at most; what was left out is counted in the next one."""
        last_ms, left_out = self._complaints.get(peer, (-_COMPLAINT_INTERVAL_MS, 0))
        now_ms = self.clock.monotonic_ms()
        if now_ms - last_ms < _COMPLAINT_INTERVAL_MS:
            self._complaints[peer] = (last_ms, left_out + 1)
            return
        if len(self._complaints) >= _PEERS_REMEMBERED_MAX:
            self._complaints.clear()
        self._complaints[peer] = (now_ms, 0)
        more = f" ({left_out} more like it left out)" if left_out else ""
        log.warning("%s: %s%s", peer, text, more)

    # ------------------------------------------------------------- the tick

    def sessions(self) -> list[Session]:
        return list(self._sessions)

    def sweep(self) -> None:
        """Holds every connection to its deadlines, as of the clock."""
        self.now_ms = self.clock.monotonic_ms()
        self._accepted_since_sweep = 0
        for session in list(self._sessions):
            session.sweep(self.now_ms)
        self._share_budget()

    def _tick(self) -> None:
        # The next one first: a bug in this one must not end all deadlines.
        self._sweep_handle = self._loop.call_later(limits.SWEEP_INTERVAL_MS / 1000, self._tick)
        self.sweep()


def _listening_socket(host: str, port: int) -> socket.socket:
    # Bytes, because text goes through the idna codec, whose tables take milliseconds to load.
    name = (host or "0.0.0.0").encode("ascii")
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # "localhost" is both ::1 and 127.0.0.1: the one that every client tries.
    found.sort(key=lambda info: info[0] != socket.AF_INET)
    family, kind, proto, _, address = found[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _fd_limit() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _FD_LIMIT_MAX if soft == resource.RLIM_INFINITY else soft
