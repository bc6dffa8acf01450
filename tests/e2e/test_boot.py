"""test_boot.py - the package and its units under a systemd of their own.

It runs in namespaces, on a layer over the files of this machine that is gone
afterwards (see boot); nothing of the machine changes.
"""
import os
import shutil
import subprocess
import tempfile
import unittest

import facts
import harness
import test_package

BOOT = os.path.join(harness.ROOT, "tests", "e2e", "boot")
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "--ipc", "--cgroup")
SECONDS = 120
# What every script may use. A line `say NAME …` is what the test looks at.
PRELUDE = r"""
say () { printf '%s\n' "say $*"; }
wait_for () { for _ in $(seq 200); do "$@" && return; sleep 0.05; done; say "gave up on $*"; false; }
page () { curl -s --max-time 2 "http://127.0.0.1:$1/$2"; }
ready () { [ "$(curl -s -o /dev/null -w '%{http_code}' --max-time 2 "http://127.0.0.1:$1/ready")" = 200 ]; }
rewarded () { for port; do page "$port" metrics; done | grep -q '^guerdon_success_total 1$'; }
of () { systemctl show -P "$2" "guerdon@$1.service"; }
over () { [ "$(of "$1" ActiveState)" = failed ]; }
status () { sed -n "s/^$2:[[:space:]]*//p" "/proc/$(of "$1" MainPID)/status"; }
login () { STATE_DIR=/var/lib/guerdon/sandbox guerdon emit LOGIN --user alice --from "$1" > /dev/null; }
"""


def missing():
    """Why nothing can be booted here; None when it can be."""
    if os.geteuid() != 0:
        return "only root can boot a systemd"
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run([*NAMESPACES, "sh", "-c", 'mount -t tmpfs none "$0" && mkdir "$0/u" "$0/w" "$0/r" && '
                              'mount -t overlay none -o lowerdir=/,upperdir="$0/u",workdir="$0/w" "$0/r" && '
                              'mount -t cgroup2 none "$0/w"', folder], capture_output=True, text=True,
                             timeout=SECONDS, check=False)
    return None if ran.returncode == 0 else "no layer can be mounted here: " + ran.stderr.strip()


class Boot(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        if missing():
            raise unittest.SkipTest(missing())
        test_package.Package.setUpClass()
        cls.addClassCleanup(test_package.Package.doClassCleanups)

    def booted(self, script):
        """What the script said, line by line."""
        folder = tempfile.mkdtemp(prefix="guerdon-boot.")
        self.addCleanup(shutil.rmtree, folder, True)
        shutil.copy(test_package.Package.file, os.path.join(folder, "guerdon.deb"))
        with open(os.path.join(folder, "script"), "w", encoding="utf-8") as file:
            file.write(PRELUDE + script)
        subprocess.run([*NAMESPACES, BOOT, folder], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.STDOUT, timeout=SECONDS, check=False)
        text = ""
        for name in ("dpkg", "console", "result"):
            path = os.path.join(folder, "out", name)
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    text = file.read() if name == "result" else text + file.read()
        said = [line[len("say "):] for line in text.splitlines() if line.startswith("say ")]
        self.assertTrue(said, text)
        self.context = text
        return said

    def test_the_sandbox_as_a_service(self):
        said = self.booted(r"""
            systemctl start guerdon@sandbox.service
            wait_for ready 8000
            login game-1
            login game-2
            wait_for rewarded 8000 && say rewarded
            say caps "$(status sandbox CapBnd)" new "$(status sandbox NoNewPrivs)" seccomp "$(status sandbox Seccomp)"
            say user "$(ps -o user:32= -p "$(of sandbox MainPID)")" state "$(stat -L -c %a /var/lib/guerdon/sandbox)"
            systemctl stop guerdon@sandbox.service
            say "$(of sandbox Result)" "$(of sandbox ExecMainStatus)"
        """)
        self.assertEqual(["rewarded", "caps 0000000000000000 new 1 seccomp 2", "user guerdon-sandbox state 700",
                          "success 0"], said, self.context)

    def test_a_service_each_with_keys_and_the_end_of_the_package(self):
        roles = " ".join(facts.roles())
        said = self.booted(r"""
            guerdon keygen /etc/guerdon/curve > /dev/null
            chown -R root:guerdon /etc/guerdon/curve
            chmod -R u=rwX,g=rX,o= /etc/guerdon/curve
            (umask 077; echo k4nary > /etc/guerdon/api_secret)
            cat >> /etc/guerdon/guerdon.env <<'X'
APP_1_NAME=game-1
APP_2_NAME=game-2
REWARD_APP_1_USER_LOGIN_APP_2_ID=promo1
REWARD_APP_1_USER_LOGIN_APP_2_AMOUNT=10
REWARD_APP_1_USER_LOGIN_APP_2_CURRENCY=gold
EVENTS_CLIENT_ID=worker
EVENTS_PORT_8000_TCP_PORT=8101
APP_1_USERMETA_PORT_8000_TCP_PORT=8101
APP_1_VIRTUALCURRENCY_PORT_8000_TCP_PORT=8101
DECISION_ENDPOINT=tcp://127.0.0.1:5571
USERMETA_CLIENT_ENDPOINT=tcp://127.0.0.1:5572
CURRENCY_CLIENT_ENDPOINT=tcp://127.0.0.1:5573
STATS_ENDPOINT=tcp://127.0.0.1:5574
X
            # The sandbox only has the services; its own actors wait for another channel.
            printf '%s\n' SANDBOX_PORT=8101 PORT=8100 API_SECRET=k4nary EVENTS_CHANNEL=other > /etc/guerdon/sandbox.env
            systemctl start guerdon@sandbox.service
            wait_for ready 8100
            port=8000
            for role in """ + roles + r"""; do
                echo PORT=$port > /etc/guerdon/$role.env
                systemctl start guerdon@$role.service
                port=$((port + 1))
            done
            for port in 8000 8001 8002 8003 8004; do wait_for ready $port; done
            for app in game-1 game-2; do
                EVENTS_CHANNEL=users/v1 STATE_DIR=/var/lib/guerdon/sandbox guerdon emit LOGIN --user alice --from $app \
                    --channel users/v1 > /dev/null
            done
            wait_for rewarded 8000 8001 8002 8003 8004 && say rewarded
            say users "$(ps -C guerdon -o user:32= | sort -u | wc -l)"
            for role in """ + roles + r"""; do
                systemctl stop guerdon@$role.service
                say $role "$(of $role Result)" "$(of $role ExecMainStatus)"
            done
            systemctl start guerdon@stats.service
            mv /etc/guerdon/api_secret /etc/guerdon/away
            systemctl start guerdon@all.service 2> /dev/null || say without a secret "$(of all ExecMainStatus)"
            systemctl stop guerdon@all.service
            mv /etc/guerdon/away /etc/guerdon/api_secret
            echo WINDOW=no > /etc/guerdon/all.env
            systemctl start guerdon@all.service
            wait_for over all
            say misconfigured "$(of all ExecMainStatus)"
            dpkg --purge guerdon > /dev/null 2>&1
            systemctl --quiet is-active guerdon@stats.service || say stopped
            find /usr /lib/systemd -name '*guerdon*' -not -path '/usr/src/*' | grep -E '/(bin|systemd|man1|completions)/' ||
                say gone
            [ -e /etc/guerdon/guerdon.env ] || say settings gone
            [ -e /etc/guerdon/api_secret ] && [ -e /var/lib/guerdon/sandbox ] && say what the operator put there stays
        """)
        self.assertEqual(["rewarded", "users %d" % (len(facts.roles()) + 1)] +
                         ["%s success 0" % role for role in facts.roles()] +
                         ["without a secret 243",
                          "misconfigured %d" % facts.exit_codes()["configuration"], "stopped", "gone",
                          "settings gone", "what the operator put there stays"], said, self.context)


if __name__ == "__main__":
    harness.main()
