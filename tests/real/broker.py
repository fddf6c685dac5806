"""Real Kafka brokers in KRaft mode on loopback, and the tools that come with them."""

import json
import shutil
import subprocess
import uuid

from processes import Failure, Server, free_ports, wait_until

USER, PASSWORD = "watchbell", "a-secret-of-this-run"

PROPERTIES = """\
process.roles={roles}
node.id={node}
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure}{controller_listener}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
replica.lag.time.max.ms=3000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.retention.check.interval.ms=1000
controlled.shutdown.enable=true
"""


class Broker:
    """One node; the first is the controller, too."""

    def __init__(self, kafka, node):
        self.kafka, self.node = kafka, node
        self.directory = kafka.directory / f"node-{node}"
        self.directory.mkdir(parents=True)
        self.plain, self.secure = free_ports(2)
        self.server = None
        first = node == 1
        self.properties = self.directory / "server.properties"
        self.properties.write_text(PROPERTIES.format(
            roles="broker,controller" if first else "broker", node=node, controller=kafka.controller, plain=self.plain,
            secure=self.secure, controller_listener=f",CONTROLLER://127.0.0.1:{kafka.controller}" if first else "",
            keystore=kafka.keystore, data=self.directory / "data", user=USER, password=PASSWORD))
        scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        kafka.java("kafka.tools.StorageTool", "format", "-t", kafka.id, "-c", self.properties,
                   *(["--add-scram", scram] if first else []))

    def start(self):
        self.server = Server(f"kafka {self.node}", self.kafka.command("kafka.Kafka", self.properties, heap="512m"),
                             self.directory / "kafka.log")

    def stop(self):
        self.server.stop(40)

    def kill(self):
        self.server.kill()


class Kafka:
    """A cluster of so many brokers."""

    def __init__(self, libraries, directory, authority, brokers=1):
        self.libraries, self.directory = libraries, directory
        directory.mkdir(parents=True)
        self.id = subprocess.run([*self.command("kafka.tools.StorageTool"), "random-uuid"], check=True, capture_output=True,
                                 text=True).stdout.split()[-1]
        (self.controller,) = free_ports(1)
        self.keystore = self._keystore(authority)
        self.brokers = [Broker(self, node) for node in range(1, brokers + 1)]

    def _keystore(self, authority):
        cert, key = authority.issue(self.directory.name, "kafka", server=True)
        keystore = self.directory / "kafka.pem"
        pkcs8 = subprocess.run(["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", str(key)], check=True, capture_output=True).stdout
        keystore.write_bytes(pkcs8 + cert.read_bytes() + authority.cert.read_bytes())
        return keystore

    @property
    def plain(self):
        return ",".join(f"127.0.0.1:{broker.plain}" for broker in self.brokers)

    @property
    def secure(self):
        return ",".join(f"127.0.0.1:{broker.secure}" for broker in self.brokers)

    def command(self, main, *words, heap="256m"):
        return ["java", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-cp", f"{self.libraries}/*", main, *map(str, words)]

    def java(self, main, *words):
        """Runs one of the tools and gives what it prints."""
        ran = subprocess.run(self.command(main, *words), capture_output=True, text=True, timeout=60)
        if ran.returncode != 0:
            raise Failure(f"{main} {' '.join(map(str, words))} failed: {(ran.stderr + ran.stdout)[-600:]}")
        return ran.stdout

    # ---- life ----

    def start(self):
        for broker in self.brokers:
            broker.start()
        self.wait()

    def wait(self):
        """Until every broker that runs answers."""
        running = [broker for broker in self.brokers if broker.server and broker.server.alive()]
        for broker in running:
            def answers(broker=broker):
                listed = self.kcat("-L", "-J", brokers=f"127.0.0.1:{broker.plain}", timeout_s=5)
                return len(json.loads(listed)["brokers"]) >= len(running)
            wait_until(f"kafka {broker.node} that answers", answers, 60, 0.5, server=broker.server)

    def stop(self):
        for broker in reversed(self.brokers):
            if broker.server and broker.server.alive():
                broker.stop()

    def kill(self):
        for broker in self.brokers:
            broker.kill()

    # ---- topics ----

    def kcat(self, *words, brokers=None, stdin=b"", timeout_s=60):
        command = ["kcat", "-q", "-b", brokers or self.plain, *map(str, words)]
        try:
            ran = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise Failure(f"{' '.join(command)} did not end within {timeout_s} s") from None
        if ran.returncode != 0:
            raise Failure(f"{' '.join(command)} failed: {ran.stderr.decode(errors='replace')[-400:]}")
        return ran.stdout.decode(errors="replace")

    def create_topic(self, topic, partitions, replicas=1, **settings):
        settings = [word for name, value in settings.items() for word in ("--config", f"{name.replace('_', '.')}={value}")]
        self._topics("--create", "--topic", topic, "--partitions", partitions, "--replication-factor", replicas, *settings)

    def delete_topic(self, topic):
        self._topics("--delete", "--topic", topic)
        wait_until(f"end of {topic}", lambda: topic not in self._topics("--list").split(), 30, 1)

    def grow_topic(self, topic, partitions):
        self._topics("--alter", "--topic", topic, "--partitions", partitions)

    def _topics(self, *words):
        return self.java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.plain, *words)

    def delete_records(self, topic, partition, before):
        """Retention, at once: messages before an offset go."""
        path = self.directory / "delete.json"
        path.write_text(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": partition, "offset": before}]}))
        self.java("org.apache.kafka.tools.DeleteRecordsCommand", "--bootstrap-server", self.plain, "--offset-json-file", path)

    def end(self, topic, partition):
        """The offset after the newest message."""
        found = self.java("org.apache.kafka.tools.GetOffsetShell", "--bootstrap-server", self.plain, "--topic-partitions",
                          f"{topic}:{partition}", "--time", "-1")
        return int(found.strip().rsplit(":", 1)[1])

    def group(self, group):
        """What Kafka's own tool says of a consumer group."""
        return self.java("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--bootstrap-server", self.plain,
                         "--describe", "--group", group)

    def produce(self, topic, messages, partition=-1, codec="none", timeout_s=60):
        """One message per line; returns once all in-sync replicas have them, and waits for brokers that are away. What was
        sent twice is written once."""
        lines = b"".join(message.encode() + b"\n" for message in messages)
        self.kcat("-P", "-E", "-t", topic, "-p", partition, "-z", codec, "-X", "acks=all", "-X", "enable.idempotence=true",
                  "-X", "message.max.bytes=20000000", "-X", "message.timeout.ms=55000", stdin=lines, timeout_s=timeout_s)


def unique(prefix):
    return f"{prefix}-{uuid.uuid4()}"


def tools_missing():
    return [name for name in ("java", "mvn", "kcat") if not shutil.which(name)]
