//! systemd's two protocols: sockets that it holds (`LISTEN_FDS`, sd_listen_fds(3)) and what it wants to be told
//! (`NOTIFY_SOCKET`, sd_notify(3)). Without a systemd nothing happens.
