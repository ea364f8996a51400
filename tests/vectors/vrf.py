"""ECVRF-RISTRETTO255-SHA512 (RFC 9381, c2sp.org/vrf-r255), verifying only, over ristretto255 (RFC 9496) and the
curve arithmetic of verify.py. Not in constant time: it holds no secret.

    python3 tests/vectors/vrf.py    checks the test vector of the specification
"""

import hashlib

from verify import BASE, D, L, P, SQRT_M1, add, mul

SUITE = b"\xffc2sp.org/vrf-r255"
INVSQRT_A_MINUS_D = 54469307008909316920995813868745141605393597292927456921205312896311721017578
SQRT_AD_MINUS_ONE = 25063068953384623474111414158702152701244531502492656460079210482610430750235
IDENTITY = bytes(32)


def is_negative(x):
    return x % P & 1


def absolute(x):
    return (P - x) % P if is_negative(x) else x % P


def sqrt_ratio(u, v):
    """RFC 9496 section 4.2: whether u/v is a square, and the root that is not negative."""
    r = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    check = v * r * r % P
    if check in ((P - u) % P, (P - u) * SQRT_M1 % P):
        r = r * SQRT_M1 % P
    return check in (u % P, (P - u) % P), absolute(r)


def decode(data):
    """Section 4.3.1: the point, or None."""
    s = int.from_bytes(data, "little")
    if len(data) != 32 or s >= P or is_negative(s):
        return None
    u1, u2 = (1 - s * s) % P, (1 + s * s) % P
    v = (-D * u1 * u1 - u2 * u2) % P
    square, invsqrt = sqrt_ratio(1, v * u2 * u2 % P)
    den_x = invsqrt * u2 % P
    x = absolute(2 * s * den_x)
    y = u1 * invsqrt * den_x * v % P
    t = x * y % P
    return (x, y, 1, t) if square and not is_negative(t) and y else None


def encode(point):
    """Section 4.3.2."""
    x, y, z, t = point
    u1, u2 = (z + y) * (z - y) % P, x * y % P
    _, invsqrt = sqrt_ratio(1, u1 * u2 * u2 % P)
    den1, den2 = invsqrt * u1 % P, invsqrt * u2 % P
    z_inv = den1 * den2 * t % P
    if is_negative(t * z_inv):
        x, y, den2 = y * SQRT_M1 % P, x * SQRT_M1 % P, den1 * INVSQRT_A_MINUS_D % P
    if is_negative(x * z_inv):
        y = -y
    return absolute(den2 * (z - y)).to_bytes(32, "little")


def one_way_map(data):
    """Section 4.3.4: 64 bytes to a point."""

    def half(part):
        t = (int.from_bytes(part, "little") & (2**255 - 1)) % P
        r = SQRT_M1 * t * t % P
        u, v = (r + 1) * (1 - D * D) % P, (-1 - r * D) * (r + D) % P
        square, s = sqrt_ratio(u, v)
        s, c = (s, -1) if square else (-absolute(s * t), r)
        n = (c * (r - 1) * (D - 1) ** 2 - v) % P
        w0, w1, w2, w3 = 2 * s * v, n * SQRT_AD_MINUS_ONE, 1 - s * s, 1 + s * s
        return w0 * w3 % P, w2 * w1 % P, w1 * w3 % P, w0 * w2 % P

    return add(half(data[:32]), half(data[32:]))


def minus(point):
    x, y, z, t = point
    return -x % P, y, z, -t % P


def value(public, alpha, proof):
    """The 64 bytes that the proof (80 bytes) proves to be the function's value of `alpha`; else None."""
    key, gamma = decode(public), decode(proof[:32])
    c, s = int.from_bytes(proof[32:48], "little"), int.from_bytes(proof[48:], "little")
    if key is None or public == IDENTITY or gamma is None or len(proof) != 80 or s >= L:
        return None
    h = one_way_map(hashlib.sha512(SUITE + b"\x82" + public + alpha).digest())
    u = add(mul(s, BASE), minus(mul(c, key)))
    v = add(mul(s, h), minus(mul(c, gamma)))
    points = b"".join(encode(point) for point in (key, h, gamma, u, v))
    if hashlib.sha512(SUITE + b"\x02" + points + b"\x00").digest()[:16] != proof[32:48]:
        return None
    return hashlib.sha512(SUITE + b"\x03" + encode(gamma) + b"\x00").digest()


def main():
    public = bytes.fromhex("54136cd90d99fbd1d4e855d9556efea87ba0337f2a6ce22028d0f5726fcb854e")
    proof = bytes.fromhex(
        "0a97d961262fb549b4175c5117860f42ae44a123f93c476c439eddd1c0cff9265c805525233e2284dbed45e593b8eea3"
        "1d5ca9734d72bcbba9738d5237f955f3b2422351149d1312503b6441a47c940c"
    )
    beta = value(public, b"c2sp.org/vrf-r255", proof)
    assert beta is not None and beta.hex() == (
        "dd653f0879b48c3ef69e13551239bec4cbcc1c18fe8894de2e9e1c790e18273603bf1c6c25d7a797aeff3c43fd32b974"
        "d3fcbd4bcce916007097922a3ea3a794"
    )
    assert value(public, b"c2sp.org/vrf-r256", proof) is None
    print("the test vector of c2sp.org/vrf-r255 holds")


if __name__ == "__main__":
    main()
