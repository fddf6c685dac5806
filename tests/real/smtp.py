"""A real mail server: exim4 with STARTTLS and a password, delivering to a maildir."""

import email
import email.policy
import os
import pwd
import secrets
import shutil
import smtplib
import ssl
from pathlib import Path

from processes import Server, free_ports, wait_until
from tools import exim_binary

USER = "watchbell"
MAIL_USER = "Debian-exim"

CONFIGURATION = """\
primary_hostname = localhost
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/exim.pid
tls_advertise_hosts = *
tls_certificate = {directory}/tls.crt
tls_privatekey = {directory}/tls.key
# A password is taken only over TLS, and mail only with a password.
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
acl_smtp_rcpt = check_recipient
acl_smtp_data = accept_all
host_lookup =
rfc1413_hosts =
never_users = root
message_size_limit = 10M
smtp_accept_max = 50
queue_run_max = 1

begin acl
check_recipient:
  deny    !authenticated = *
          message = authenticate first
  accept
accept_all:
  accept

begin routers
everything:
  driver = accept
  transport = maildir

begin transports
maildir:
  driver = appendfile
  directory = {directory}/maildir
  maildir_format
  delivery_date_add
  envelope_to_add
  user = {mail_user}
  group = {mail_user}
  mode = 0600

begin retry
* * F,10m,5s

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{{user}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_set_id = $auth1
"""


class MailServer:
    def __init__(self, directory, authority):
        self.directory = Path(directory)  # below directories that any user may pass through
        self.user, self.password = USER, secrets.token_hex(12)
        self.authority = authority
        (self.port,) = free_ports(1)
        self.server = None
        self._prepare()

    def _prepare(self):
        exim_binary()
        owner = pwd.getpwnam(MAIL_USER)
        for name in ("", "spool", "log", "maildir"):
            (self.directory / name).mkdir(exist_ok=True)
            os.chown(self.directory / name, owner.pw_uid, owner.pw_gid)
        cert, key = self.authority.issue("smtp", "localhost", server=True)
        for source, target, mode in ((cert, "tls.crt", 0o644), (key, "tls.key", 0o640)):
            shutil.copyfile(source, self.directory / target)
            os.chown(self.directory / target, 0, owner.pw_gid)
            os.chmod(self.directory / target, mode)
        configuration = self.directory / "exim4.conf"
        configuration.write_text(CONFIGURATION.format(
            port=self.port, directory=self.directory, mail_user=MAIL_USER, user=self.user, password=self.password))
        os.chown(configuration, 0, owner.pw_gid)
        os.chmod(configuration, 0o640)
        self.password_file = self.directory / "password"
        self.password_file.touch(0o600)
        self.password_file.write_text(self.password + "\n")

    def start(self):
        command = [exim_binary(), "-C", self.directory / "exim4.conf", "-bdf", "-q1m"]
        self.server = Server("exim4", command, self.directory / "exim4.out", guarded=True)
        wait_until("SMTP greeting", self._greets, 20, server=self.server)

    def stop(self):
        if self.server:
            self.server.kill()

    def _greets(self):
        with smtplib.SMTP("127.0.0.1", self.port, timeout=5) as client:
            return client.noop()[0] == 250

    def send_probe(self, recipient):
        """Sends one message as a client must: over TLS, with the password."""
        context = ssl.create_default_context(cafile=str(self.authority.cert))
        with smtplib.SMTP("127.0.0.1", self.port, timeout=10) as client:
            client.starttls(context=context)
            client.login(self.user, self.password)
            client.sendmail("probe@localhost", [recipient], "Subject: probe\r\n\r\nprobe\r\n")

    def forget(self):
        """Removes what was delivered so far."""
        for path in (self.directory / "maildir" / "new").iterdir():
            path.unlink()

    def messages(self):
        """What was delivered so far."""
        new = self.directory / "maildir" / "new"
        paths = sorted(new.iterdir()) if new.is_dir() else []
        return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in paths]


def text_of(message):
    """Subject and every readable part of a message as one text."""
    parts = [str(message["subject"] or "")]
    for part in message.walk():
        if part.get_content_maintype() == "text":
            parts.append(part.get_content())
    return "\n".join(parts)
