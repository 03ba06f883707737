"""Zigzag varints: small numbers of either sign in few bytes, seven bits a byte, lowest first."""


def encode(value: int, bits: int = 64) -> bytes:
    number = ((value << 1) ^ (value >> (bits - 1))) & ((1 << bits) - 1)
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode(data: bytes, pos: int, bits: int = 64) -> tuple[int, int]:
    """The value and the position after it. ValueError if it is cut short or too wide."""
    number = shift = 0
    while True:
        if pos >= len(data):
            raise ValueError("cut short")
        byte = data[pos]
        pos += 1
        number |= (byte & 0x7F) << shift
        if number >= 1 << bits or shift >= bits:
            raise ValueError("too wide")
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), pos
        shift += 7
