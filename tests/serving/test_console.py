import pytest

from configs.settings import Settings
from serving.console import chosen_model


@pytest.mark.parametrize(
    ("tag", "chosen"),
    [(None, ("credit_scoring", "latest")), ("other", ("other", "latest")), ("other:", ("other", "latest")), ("other:v1", ("other", "v1"))],
)
def test_a_model_is_chosen_by_tag_else_by_the_settings(settings: Settings, tag: str | None, chosen: tuple[str, str]) -> None:
    assert chosen_model(settings, tag) == chosen
