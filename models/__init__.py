"""Export, checks and model cards of the models that the mesh runs. A build tool: no service imports it."""
