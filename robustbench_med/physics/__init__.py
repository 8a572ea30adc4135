"""The physics of a scan: signal, coils, sampling, noise, anatomy."""
