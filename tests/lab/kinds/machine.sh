# systemd does not know that it is in a container: a host that may be rebooted.
echo none >/run/systemd/container
