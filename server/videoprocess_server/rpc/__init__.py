"""The only place that knows gRPC and the generated code: parse, one call on the engine, convert."""
