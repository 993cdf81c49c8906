# What the control socket and the web daemon read of others.
antipode_fuzz(control_api
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/control_api.cc DEPENDS control_api)
antipode_fuzz(web_request
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/web_request.cc DEPENDS web)
