"""The small drawing kit behind the example pictures: a pen, faces, hair, bodies and scenery."""
