"""Use cases: what the contract's calls do, on Protocols only. Synchronous and thread-safe."""
