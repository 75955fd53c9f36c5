"""ComfyUI's door to the node pack: the mappings it looks for, nothing else."""

from __future__ import annotations

from .nodes import NODES

NODE_CLASS_MAPPINGS = {name: node for name, (_, node) in NODES.items()}
NODE_DISPLAY_NAME_MAPPINGS = {name: title for name, (title, _) in NODES.items()}
WEB_DIRECTORY = "./web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
