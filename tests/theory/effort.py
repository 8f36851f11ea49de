"""What a test may cost: examples per property."""

import hypothesis


def examples(count: int) -> hypothesis.settings:
    """Settings of the loaded profile with `count` examples, or `10 * count` where the profile is the thorough one.

    HYPOTHESIS_PROFILE=thorough pytest tests/theory
    """
    profile = hypothesis.settings()
    return hypothesis.settings(profile, max_examples=count * max(1, profile.max_examples // 50))
