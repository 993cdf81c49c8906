antipode_fuzz(disksync_frame SOURCES disksync_frame.cc DEPENDS common_wire deps::xxhash MUTATIONS 100000)
antipode_fuzz(disksync_metadata SOURCES disksync_metadata.cc DEPENDS disksync_store deps::xxhash MUTATIONS 20000)
antipode_fuzz(disksync_undo SOURCES disksync_undo.cc DEPENDS disksync_store deps::xxhash MUTATIONS 20000)
