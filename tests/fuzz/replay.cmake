antipode_fuzz(replay_log_batch SOURCES replay_log_batch.cc DEPENDS replicator_replay
    MUTATIONS 100000)
