antipode_fuzz(tiebreaker_frame SOURCES tiebreaker_frame.cc DEPENDS common_wire MUTATIONS 100000)
antipode_fuzz(tiebreaker_etcd SOURCES tiebreaker_etcd.cc DEPENDS tiebreaker_etcd MUTATIONS 20000)
