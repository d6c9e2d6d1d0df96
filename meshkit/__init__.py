"""The shared runtime: transports, interceptors, lifecycle, settings. It knows no service."""
