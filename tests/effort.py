"""How many examples hypothesis tries."""

from hypothesis import settings


def examples(number):
    """So many; as many times more as the profile asks for (see conftest.py)."""
    return settings(max_examples=number * settings.default.max_examples // 100)
