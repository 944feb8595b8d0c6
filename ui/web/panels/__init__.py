"""One panel a module: `build` makes components, `wire` attaches events."""
