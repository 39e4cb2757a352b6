"""One framework each: the only places that import it. Integrations count; schedules answer."""
