"""From the workflow format that people save (and the template browser loads) to the one that the server runs.

A saved workflow is the picture of a canvas: nodes with widget values in a row, links by number, notes, reroutes, muted
and bypassed nodes. The server wants a prompt: for every node that takes part, its inputs by name. The browser does
this conversion when one presses Run; the example workflows are tested without a browser, so it is done here, the same
way, for what example workflows contain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Prompt = dict[str, dict[str, Any]]

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
NOTES = ("Note", "MarkdownNote")
ALWAYS, MUTED, BYPASSED = 0, 2, 4
# Widgets that the browser adds behind an input; their values stand in the row but mean nothing to the server.
UPLOADS = ("image_upload", "animated_image_upload", "video_upload", "audio_upload")
# Nodes whose widgets the browser makes up to show something; the server has none of them.
SHOWING = ("PreviewAny",)


class NotConvertible(ValueError):
    """A workflow holds something that is not converted here."""


def to_prompt(workflow: dict[str, Any], information: dict[str, Any]) -> Prompt:
    """The prompt that the browser would send for a workflow.

    Args:
        workflow: the saved workflow, format 0.4.
        information: the server's ``/object_info``.

    Raises:
        NotConvertible: an unknown node type, a subgraph, a widget row that does not fit the node's inputs.

    >>> note = {"id": 1, "type": "Note", "mode": 0, "widgets_values": ["read me"]}
    >>> to_prompt({"nodes": [note], "links": []}, {})
    {}
    """
    if workflow.get("definitions", {}).get("subgraphs"):
        raise NotConvertible("subgraphs are not converted")
    return _Canvas(workflow, information).prompt()


def node_types(workflow: dict[str, Any]) -> set[str]:
    """The types of the nodes that the server has to know."""
    return {n["type"] for n in workflow["nodes"] if n["type"] not in (*NOTES, "Reroute", "PrimitiveNode")}


def widget_names(node_information: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """(name, sent) of the widgets of a node in the order of their values; False for those the server never sees."""
    for group in ("required", "optional"):
        for name, (kind, options) in _inputs(node_information, group):
            if options.get("forceInput") or not (isinstance(kind, list) or kind in WIDGETS):
                if str(kind).startswith("COMFY_DYNAMICCOMBO"):
                    raise NotConvertible(f"input {name} of {node_information['name']} grows widgets of its own")
                continue
            yield name, True
            seeded = kind == "INT" and name in ("seed", "noise_seed") and "control_after_generate" not in options
            if options.get("control_after_generate") or seeded or any(options.get(upload) for upload in UPLOADS):
                yield name, False


def _inputs(node_information: dict[str, Any], group: str) -> Iterator[tuple[str, tuple[Any, dict[str, Any]]]]:
    given = node_information["input"].get(group) or {}
    for name in node_information.get("input_order", {}).get(group) or given:
        kind, *options = given[name]
        yield name, (kind, options[0] if options else {})


class _Canvas:
    def __init__(self, workflow: dict[str, Any], information: dict[str, Any]) -> None:
        self.information = information
        self.nodes = {node["id"]: node for node in workflow["nodes"]}
        # link number -> (node, output slot) it comes from
        self.sources = {link[0]: (link[1], link[2]) for link in workflow["links"]}

    def prompt(self) -> Prompt:
        return {
            str(node["id"]): {
                "class_type": node["type"],
                "inputs": self.inputs(node),
                "_meta": {"title": node.get("title") or self.about(node).get("display_name") or node["type"]},
            }
            for node in self.nodes.values()
            if self.is_sent(node)
        }

    def is_sent(self, node: dict[str, Any]) -> bool:
        virtual = node["type"] in (*NOTES, "Reroute", "PrimitiveNode")
        return not virtual and node.get("mode", ALWAYS) not in (MUTED, BYPASSED)

    def about(self, node: dict[str, Any]) -> dict[str, Any]:
        try:
            return self.information[node["type"]]
        except KeyError:
            raise NotConvertible(f"the host has no node {node['type']}") from None

    def inputs(self, node: dict[str, Any]) -> dict[str, Any]:
        values = self.widgets(node)
        for socket in node.get("inputs") or []:
            if socket.get("link") is None:
                continue
            source = self.source(socket["link"])
            if source is not None:
                values[socket["name"]] = source
        return values

    def widgets(self, node: dict[str, Any]) -> dict[str, Any]:
        given = node.get("widgets_values") or []
        if isinstance(given, dict):
            return dict(given)
        if node["type"] in SHOWING:
            return {}
        names = list(widget_names(self.about(node)))
        # The last value may belong to a button, which one front end writes down and another does not.
        if len(given) not in (len(names), sum(sent for _, sent in names)):
            raise NotConvertible(f"{node['type']} {node['id']} has widget values {given} for the widgets {names}")
        if len(given) < len(names):
            names = [name for name in names if name[1]]
        return {name: value for (name, sent), value in zip(names, given, strict=True) if sent}

    def source(self, link: int) -> Any:
        """What an input gets that is linked: [node, slot], a primitive's value, or None where nothing is sent."""
        node_id, slot = self.sources[link]
        node = self.nodes[node_id]
        if node["type"] == "PrimitiveNode":
            return node["widgets_values"][0]
        if node["type"] == "Reroute":
            (socket,) = node["inputs"]
            return None if socket.get("link") is None else self.source(socket["link"])
        if node.get("mode", ALWAYS) == BYPASSED:
            return self.through(node, slot)
        return None if node.get("mode", ALWAYS) == MUTED else [str(node_id), slot]

    def through(self, node: dict[str, Any], slot: int) -> Any:
        """What a bypassed node passes on from an output: its input of the same type, that of the same place first."""
        kind = node["outputs"][slot]["type"]
        sockets = node.get("inputs") or []
        for socket in [*sockets[slot : slot + 1], *sockets]:
            if socket["type"] == kind and socket.get("link") is not None:
                return self.source(socket["link"])
        return None
