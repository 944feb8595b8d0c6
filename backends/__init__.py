"""Everything behind the user interface: hardware, models, placement, engines, worker."""
