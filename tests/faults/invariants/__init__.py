"""What must hold whatever dies: one module for each invariant, `check(facts)` gives what was broken."""
