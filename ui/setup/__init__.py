"""What launch.py does once the Python is known to suit: make the environment, mend it, hand over to it.

Standard library only, as nothing is installed yet. `decide` plans from a described `System` and touches
nothing; `observe` looks, `perform` does. The environment is built in place, since its scripts hold absolute
paths, and counts only once its stamp, written last, is there: whatever interrupts the work, the next start
sees no stamp, mends what is half-made and goes on. A start with nothing to do reads the stamp and imports no
more than `main`, `options`, `problems`, `places`, `stamp` and `handover`.
"""
