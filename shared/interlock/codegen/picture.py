"""The picture of services and topics, in Mermaid, put between two markers of the README."""

from __future__ import annotations

from interlock.codegen.source import SERVICES, Source, TopicSource

PATH = "README.md"
BEGIN = "<!-- generated: topics -->"
END = "<!-- /generated -->"


def render(source: Source) -> dict[str, str]:
    """Return the README with the picture in its place; nothing where there is no README or no place in it."""
    readme = source.root / PATH
    text = readme.read_text() if readme.is_file() else ""
    if BEGIN not in text or END not in text.partition(BEGIN)[2]:
        return {}
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return {PATH: f"{before}{BEGIN}\n{mermaid(source)}\n{END}{after}"}


def mermaid(source: Source) -> str:
    """Return the picture: boxes are services, rounded are topics, arrows run the way the records do.

    The auditor reads every topic; its arrows are left out, or nothing else could be seen.
    """
    lines = ["```mermaid", "flowchart LR"]
    lines += [f"  {name}[{name}]" for name in SERVICES if name != "auditor"]
    lines += ["  clients[your applications]"]
    lines += [f'  {_node(topic)}(["{topic.name}"])' for topic in source.topics if _shown(topic)]
    for topic in source.topics:
        if _shown(topic):
            lines += [f"  {writer} --> {_node(topic)}" for writer in topic.writers]
            lines += [f"  {_node(topic)} --> {reader}" for reader in topic.readers if _arrow(topic, reader)]
    return "\n".join([*lines, "```"])


def _shown(topic: TopicSource) -> bool:
    return topic.owner != "auditor"


def _arrow(topic: TopicSource, reader: str) -> bool:
    return reader not in {"auditor", *topic.writers}


def _node(topic: TopicSource) -> str:
    return topic.constant.lower()
