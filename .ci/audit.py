"""Asks a database for known vulnerabilities of all installed packages.

The exit status is 1 if it knows some. Without a database, as offline, nothing
is audited: then it says so, and the exit status is 0.
"""

import json
import subprocess
import sys

# Offline, each package is asked for again and again.
MOST_SECONDS = 60
AUDIT = [sys.executable, "-m", "pip_audit", "--format=json", "--skip-editable"]


def main() -> int:
  """Returns the exit status."""
  try:
    result = subprocess.run(
      [*AUDIT, "--progress-spinner=off"],
      capture_output=True,
      text=True,
      check=False,
      timeout=MOST_SECONDS,
    )
  except subprocess.TimeoutExpired:
    print(f"NOT AUDITED: no answer in {MOST_SECONDS} seconds.")
    return 0
  try:
    packages = json.loads(result.stdout)["dependencies"]
  except (ValueError, KeyError):
    reason = (result.stderr.strip().splitlines() or ["pip-audit said nothing"])[
      -1
    ]
    print(f"NOT AUDITED: {reason[:300]}")
    return 0
  # pip-audit takes what the database does not have for harmless.
  audited = [package for package in packages if "vulns" in package]
  # Those of this project and of local builds are never in it.
  if len(audited) < len(packages) / 2:
    print(
      f"NOT AUDITED: the database knows {len(audited)} of {len(packages)} "
      "packages."
    )
    return 0
  found = [
    f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in "
    f"{vulnerability['fix_versions'] or 'no version yet'}"
    for package in audited
    for vulnerability in package["vulns"]
  ]
  print(
    f"Audited {len(audited)} of {len(packages)} packages.", *found, sep="\n"
  )
  return 1 if found else 0


if __name__ == "__main__":
  sys.exit(main())
