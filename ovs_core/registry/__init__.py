"""What can be chosen by name, each with how it is built; `ovs_core.build` is its front door."""
