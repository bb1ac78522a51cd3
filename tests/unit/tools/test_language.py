"""--lang takes the languages that there are."""

import pytest
import typer

from tools.language import spoken


def test_another_language_is_refused_by_name():
    assert [spoken(lang) for lang in ("zh", "en", None)] == ["zh", "en", None]
    with pytest.raises(typer.BadParameter, match="fr: there are en, zh"):
        spoken("fr")
