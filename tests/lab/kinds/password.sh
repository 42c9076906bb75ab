# The operator has pat's sudo password in a file.
echo pat >/home/op/password
chown op: /home/op/password
chmod 600 /home/op/password
