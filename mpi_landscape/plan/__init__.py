"""What there is to do, in numbers: points, tiles, samples, costs; numpy only."""
