antipode_fuzz(control_pieces SOURCES control_pieces.cc DEPENDS replicator_disks MUTATIONS 50000)
