"""From a spec to its cells: catalog, planner, control conditions, search."""
