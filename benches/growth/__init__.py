"""What a request costs as the broker grows: `python -m benches.growth` (`make growth`).

Four axes, a broker of its own for each: partitions, bytes of one log, connections, topics. A figure
that should not depend on the axis is drawn beside a flat line, its cost at the smallest point; one
that bends up is a bug, or says in docs/growth.md why it must.
"""
