"""``fluvial explain CODE``: what an error code means and what to do about it, offline."""

from __future__ import annotations

from collections.abc import Mapping

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation, table


def explanations() -> Mapping[str, Mapping[str, str]]:
    """By code: ``title``, ``meaning`` and ``remedy``, from ``explanations.toml`` beside this module."""
    import tomllib
    from importlib.resources import files

    texts: dict[str, dict[str, str]] = tomllib.loads(
        files("fluvial.cli").joinpath("explanations.toml").read_text(encoding="utf-8")
    )
    return texts


@click.command()
@click.argument("code", required=False)
@common_options
@pass_invocation
def explain(invocation: Invocation, code: str | None) -> None:
    """Explain an error code such as F103; without one, list all codes."""
    texts = explanations()
    if code is None:
        invocation.print(texts, lambda: table([(name, text["title"]) for name, text in texts.items()]))
        return
    if (text := texts.get(code.upper())) is None:
        raise click.BadParameter(f"there is no code {code!r}; `fluvial explain` lists them", param_hint="CODE")
    invocation.print(
        {"code": code.upper(), **text},
        lambda: [f"{code.upper()}  {text['title']}", "", text["meaning"].strip(), "", text["remedy"].strip()],
    )
