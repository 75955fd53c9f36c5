"""The ComfyUI nodes: sockets in, one call into :mod:`anigender`, sockets out."""
