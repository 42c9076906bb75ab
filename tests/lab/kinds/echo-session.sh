# Somebody is connected to the service of variant K-socket-accept, which ends with the connection.
systemctl is-active --quiet echo-session ||
    systemd-run --quiet --collect --unit echo-session sh -c 'sleep infinity | exec nc 127.0.0.1 7'
for ((i = 0; i < 500; i++)); do
    [[ ! $(systemctl list-units --plain --no-legend --state=active 'echo@*') ]] || exit 0
    sleep 0.02
done
exit 1
