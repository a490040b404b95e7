"""Raw whole numbers in their unit: `raw × scale + offset`, with the decimals that scale and offset are written with.

3 × 0.1 is 0.3 and not 0.30000000000000004. Pure.
"""


def decimals(scale: float, offset: float) -> int:
    """Decimals of a whole number × `scale` + `offset`."""
    return max(_decimals(scale), _decimals(offset))


def _decimals(number: float) -> int:
    digits, _, exponent = repr(float(number)).partition("e")
    fraction = digits.partition(".")[2].rstrip("0")
    return max(0, len(fraction) - int(exponent or 0))
