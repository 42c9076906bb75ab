# Prints who the ssh user is to the host; read as that user, because root is trusted everywhere.
printf 'user=%s\n' "$(id -un)"
