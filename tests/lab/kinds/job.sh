# Somebody starts the job of variant K-job by hand, unless it is at work. /var/tmp/starts and /var/tmp/jobs count lines
case $(systemctl is-active job.service || true) in active | activating | deactivating) exit 0 ;; esac
echo started >>/var/tmp/starts
touch /var/tmp/jobs
systemctl start --no-block job.service
for ((i = 0; i < 500; i++)); do
    [[ $(wc -l </var/tmp/jobs) -lt $(wc -l </var/tmp/starts) ]] || exit 0
    sleep 0.02
done
exit 1
