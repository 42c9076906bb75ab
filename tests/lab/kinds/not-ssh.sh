# A web server listens on a port where sshd is looked for. $1: the port (2222)
mkdir -p /srv/web
systemctl is-active -q lab-web || systemd-run -q --unit=lab-web busybox httpd -f -p "${1:-2222}" -h /srv/web
for _ in $(seq 500); do
    ! nc -z 127.0.0.1 "${1:-2222}" 2>/dev/null || exit 0
    sleep 0.01
done
exit 1
