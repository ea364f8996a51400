#!/usr/bin/env bash
# 2,000 synthetic persons through all of it, two people's stories, clean stop. Everything under .local/demo.
#
#   deploy/demo.sh [--lang zh|en] [--persons N] [--keep]
#
# --keep leaves stack and services running and says how to stop them. MIANZHENG_BIN names a binary that is
# already built.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/prerequisites.sh

lang=en persons=2000 keep=no
case "${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}" in zh*) lang=zh ;; esac
while [ $# -gt 0 ]; do
  case $1 in
    --lang) lang=$2; shift 2 ;;
    --persons) persons=$2; shift 2 ;;
    --keep) keep=yes; shift ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

dir=.local/demo
city=$dir/city
logs=$dir/logs
bin=${MIANZHENG_BIN:-${CARGO_TARGET_DIR:-target}/debug/mianzheng}
services=()

# ---- small tools -----------------------------------------------------------------------------------------

bold() { if [ -t 1 ]; then printf '\033[1m%s\033[0m\n' "$*"; else printf '%s\n' "$*"; fi; }
say() { if [ "$lang" = zh ]; then printf '%s\n' "$1"; else printf '%s\n' "$2"; fi; }
chapter() { printf '\n'; bold "$(say "$1" "$2")"; }
mz() { "$bin" --dir "$dir" --lang "$lang" "$@"; }

# quietly LOG COMMAND...: shows the log only when the command fails.
quietly() {
  local log=$logs/$1.log
  shift
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    exit 1
  fi
}

# story ROLE KEY: a text of a story person in expected.json (pretty-printed, so a line each).
story() {
  awk -v role="\"$1\": {" -v key="\"$2\":" '
    index($0, role) { inside = 1 }
    inside && index($0, key) { sub(/^[^:]*: *"?/, ""); sub(/"?,?$/, ""); print; exit }' "$city/expected.json"
}

# wait_for SECONDS WHAT COMMAND...: until it succeeds.
wait_for() {
  local limit=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    if [ $SECONDS -ge $limit ] || ! alive; then
      say "等不到：$what" "gave up waiting for: $what" >&2
      tail -n 5 "$logs"/{gateway,vault,consent,console,ledger}.log >&2
      exit 1
    fi
    sleep 0.2
  done
}

start() { # NAME ARGUMENTS...: a service in the background
  local name=$1
  shift
  "$bin" --dir "$dir" --lang "$lang" "$@" >"$logs/$name.log" 2>&1 &
  services+=($!)
}

alive() {
  local pid
  for pid in "${services[@]}"; do kill -0 "$pid" 2>/dev/null || return 1; done
}

stop() {
  local status=$? pid
  trap - EXIT INT TERM
  set +e
  for pid in "${services[@]}"; do kill "$pid" 2>/dev/null; done
  for pid in "${services[@]}"; do wait "$pid" 2>/dev/null; done
  if [ -x "$bin" ]; then mz stack down >/dev/null 2>&1; fi
  if [ $status -ne 0 ]; then say "演示失败，日志在 $logs" "The demo failed; logs are in $logs" >&2; fi
  exit $status
}

# ---- build and start -------------------------------------------------------------------------------------

need_packages
mkdir -p "$logs"
if [ -z "${MIANZHENG_BIN:-}" ]; then
  need_rust
  chapter "编译（首次需要几分钟）" "Building (the first time takes minutes)"
  cargo build --locked -p mianzheng
fi
begun=$SECONDS
trap stop EXIT INT TERM

chapter "启动 Kafka 和 PostgreSQL" "Starting Kafka and PostgreSQL"
mz stack reset >/dev/null 2>&1 || true
rm -rf "$city" "$dir/contract" "$dir/instance.yaml" "$dir/ledger" "$dir/witness"
mz stack up

chapter "合同：各提供部门签署批准，建立主题、权限和表" "Contract: providers sign their approvals; topics, access rules and tables are made"
for department in civil hrss police realestate union; do quietly "sign-$department" mz contract sign --department "$department"; done
quietly lint mz lint
quietly apply mz apply --yes
mz apply --check >/dev/null && say "集群与合同一致" "the cluster is what the contract says"

chapter "$persons 名合成人员的登记簿" "Registers of $persons synthetic persons"
quietly synth mz synth --persons "$persons" --seed 1 --dirty 10 --as-of "$(date +%F)" --load "$city"
say "人社：审批名单 xlsx、参保 CSV（GB18030）；不动产：PostgreSQL；公安：NDJSON；工会：NDJSON；民政：CSV（GB18030）。每千行有十行是错的。" \
  "HRSS: approvals in xlsx, insurance in CSV (GB18030); real estate: PostgreSQL; police: NDJSON; union: NDJSON; civil affairs: CSV (GB18030). Ten rows in a thousand are dirty."

start gateway gateway
start vault vault
start consent consent serve
start console console
start ledger ledger serve

chapter "连接器发布登记簿" "Connectors publish the registers"
export EXPORTS=$PWD/$city
for name in hrss-talent hrss-insurance realestate-right police-household police-appointment union-hardship civil-minliving; do
  bold "  $name"
  status=0
  mz connect "connectors/mappings/$name.connect.yaml" --once >"$logs/connect-$name.out" 2>"$logs/connect-$name.log" || status=$?
  # 7: some rows were refused, the good ones are published.
  if [ $status -ne 0 ] && [ $status -ne 7 ]; then
    tail -n 20 "$logs/connect-$name.out" "$logs/connect-$name.log" >&2
    exit 1
  fi
  sed 's/^/  /' "$logs/connect-$name.out"
done

# ---- the flow settles ------------------------------------------------------------------------------------

# delivered DATASET: records that police hold in that topic.
delivered() {
  awk -v topic="\"to.police.talent-settlement.$1.v1\"" '
    index($0, topic) { inside = 1 }
    inside && /"records"/ { gsub(/[^0-9]/, ""); print; exit }' "$dir/counts.json"
}
due() { # what expected.json says they must hold
  if [ "$1" = hrss.talent.approval ]; then
    sed -n 's/^ *"通过": \([0-9]*\).*/\1/p' "$city/expected.json"
  else
    awk -v dataset="\"$1\":" '
      /"about_case_subjects"/ { inside = 1 }
      inside && index($0, dataset) { gsub(/[^0-9]/, ""); print; exit }' "$city/expected.json"
  fi
}
datasets="hrss.talent.approval hrss.insurance.status realestate.right police.household"
settled() {
  mz read --department police --count >"$dir/counts.json" 2>"$logs/read.log" || return 1
  local dataset
  for dataset in $datasets; do [ "$(delivered "$dataset")" = "$(due "$dataset")" ] || return 1; done
}

chapter "网关验签、判定、交付；立案后补送以前的事实" \
  "The gateway verifies, decides, delivers; where a case opens it fetches what was published before"
wait_for 150 deliveries settled
for dataset in $datasets; do printf '  %-28s %6d\n' "$dataset" "$(delivered "$dataset")"; done
say "与登记簿里有办件的人逐条相符，一条不多，一条不少。" \
  "Exactly the records of people with a case, as the registers have them: none more, none less."
quietly adapter mz adapter deploy/demo/adapter.yaml --once
say "公安的接收端已逐条核验签章并写入自己的表。" "The police adapter checked every seal and wrote its own tables."

# ---- one person's story ----------------------------------------------------------------------------------

mz read --department police >"$dir/police.jsonl" 2>"$logs/read.log"
id=$(story settler id) name=$(story settler name) booking=$(story settler booking)
person=$(grep -F "\"$id\"" "$dir/police.jsonl" | sed -n '1s/.*"person":"\([0-9a-f]*\)".*/\1/p')
rows() { grep -cF "\"$1\"" "$dir/police.jsonl" || true; }

chapter "故事：$name，人才入户已获批准，预约 $booking" "The story: $name, talent settlement approved, booking $booking"
bold "$(say "一、公安收到的（每条都有出具部门的签章）" "1. What police received, each record under its department's seal")"
mz read --department police --person "$person" --pretty

bold "$(say "二、公安没有收到的" "2. What police did not receive")"
awk '/"settler": \{/ { inside = 1 } inside && /"withheld"/ { list = 1; next } list && /\]/ { exit } list { gsub(/^ *"|",?$/, ""); print }' \
  "$city/expected.json" | while IFS= read -r text; do
  hits=$(grep -cF "$text" "$dir/police.jsonl" || true)
  printf '  %s: %s\n' "$text" "$(say "$hits 处" "found $hits times")"
  [ "$hits" -eq 0 ]
done

bold "$(say "三、没有办件的人" "3. People without a case")"
printf '  %s: %s\n' "$(story no_case name)" \
  "$(say "已获批准、未预约：公安只有 $(rows "$(story no_case id)") 条（审批名单）" \
    "approved, has not booked: police hold $(rows "$(story no_case id)") record (the approval)")"
printf '  %s: %s\n' "$(story outsider name)" \
  "$(say "参保、有房、未申请：公安有 $(rows "$(story outsider id)") 条" \
    "insured, owns a home, never applied: police hold $(rows "$(story outsider id)") records")"
[ "$(rows "$(story no_case id)")" -eq 1 ] && [ "$(rows "$(story outsider id)")" -eq 0 ]

bold "$(say "四、到了窗口，只带身份证" "4. At the window, with an ID card only")"
printf '%s\n' "$id" | mz bundle --item talent-settlement --department police --operator H0231 \
  --reason "$(say "窗口受理 $booking" "at the window, booking $booking")" --id - \
  --out "$dir/bundle.json" --html "$dir/sheet.html" --pretty | sed 's/^/  /'

bold "$(say "五、离线核验；改动一个字就会被发现" "5. Verified offline; one changed character is noticed")"
mz verify "$dir/bundle.json" | tail -n 3 | sed 's/^/  /'
sed 's/"monthsTotal":\([0-9]*\)/"monthsTotal":9\1/' "$dir/bundle.json" >"$dir/altered.json"
status=0
mz verify "$dir/altered.json" >"$logs/altered.log" 2>&1 || status=$?
[ $status -eq 4 ]
say "  改动后的副本：未通过（退出码 4）" "  the altered copy: refused (exit code 4)"

bold "$(say "六、谁看过他的数据" "6. Who read this person's data")"
printf '%s\n' "$id" | mz who-read --id - --operator A0007 --reason "$(say "演示" "demo")" | sed 's/^/  /'

bold "$(say "七、证明：这一次查询记在账本里，改不了也删不掉" "7. Proven: this bundle stands in the ledger")"
bundle_id=$(sed -n 's/.*"audit_id":"\([^"]*\)".*/\1/p' "$dir/bundle.json" | head -n 1)
proven() { mz prove --audit-id "$bundle_id" --out "$dir/bundle.tlog-proof" 2>>"$logs/prove.log"; }
wait_for 30 ledger proven
mz verify "$dir/bundle.tlog-proof" --contract "$dir/contract" | head -n 5 | sed 's/^/  /'
mz ledger audit --index | sed 's/^/  /'

# ---- a second story: consent ------------------------------------------------------------------------------

worker=$(story lapsed id) worker_name=$(story lapsed name)
union=union/retirement-help
held() { # records about the worker, the only one who consented, that the union holds now
  mz read --department union --count >"$dir/counts.json" 2>"$logs/read.log" || return 1
  awk '
    /"to.union.retirement-help.hrss.insurance.status.v1"/ { inside = 1 }
    inside && /"records"/ { gsub(/[^0-9]/, ""); print; exit }' "$dir/counts.json"
}
holds() { [ "$(held)" = "$1" ]; }
rules() { mz agreement versions >/dev/null 2>&1; }
signed_for() { # how many withdrawals have the union's receipt; all of them must
  mz withdrawals --agreement "$union" --json >"$dir/withdrawals.json" 2>"$logs/withdrawals.log" || return 1
  grep -q '"open": 0' "$dir/withdrawals.json" && [ "$(grep -c '"action": "deleted"' "$dir/withdrawals.json")" = "$1" ]
}

chapter "第二个故事：$worker_name，单位欠缴社会保险费；工会能帮忙，前提是本人同意" \
  "A second story: $worker_name, whose employer owes contributions; the union can help, with consent"
start union adapter deploy/demo/union.yaml
wait_for 60 consent rules

bold "$(say "一、本人同意之前" "1. Before the person consents")"
say "  工会有 $(held) 条" "  the union holds $(held) records"
holds 0

bold "$(say "二、同意：谁、为什么、哪几项、到哪天；回执由本人保存，可离线核验" \
  "2. Consent: to whom, for what, which fields, until when; the receipt is the person's and verifies offline")"
printf '%s\n' "$worker" | mz consent give --agreement "$union" --valid-until "$(date -d '+90 days' +%F)" \
  --separate "hrss.insurance.status.v1#arrearsMonths" --id - --out "$dir/receipt.json" | sed 's/^/  /'
consent=$(sed -n 's/.*"record_id": "\([0-9a-f]*\)".*/\1/p' "$dir/receipt.json")
printf '%s\n' "$worker" | quietly receipt mz consent verify-receipt "$dir/receipt.json" --id -

bold "$(say "三、工会看到的：只有欠费" "3. What the union sees: arrears only")"
wait_for 60 arrears holds 5
mz read --department union --pretty | sed -n 1,3p

bold "$(say "四、为什么看得到，为什么看不到" "4. Why it is seen, and why not")"
printf '%s\n' "$worker" | mz why --id - --operator A0007 --consumer union --purpose retirement-help |
  grep -E '^■|filter|行过滤|arrearsMonths|employerName|monthsTotal|employerUscc' | sed 's/^/  /'

bold "$(say "五、撤回：已生效，才算撤回；给过的也要删" "5. Revoked: only what is enforced counts; what was given is deleted")"
printf '%s\n' "$worker" | mz consent revoke "$consent" --id - --json >"$dir/revoked.json"
grep -q '"state": "enforced"' "$dir/revoked.json"
took=$(sed -n 's/.*"waited_ms": \([0-9]*\).*/\1/p' "$dir/revoked.json")
say "  $took 毫秒后生效：此后一条也不再提供" "  enforced after $took ms: nothing more is delivered"
wait_for 60 receipts signed_for 5
holds 0
say "  工会收到 5 条收回通知，已删除，并签了 5 份回执；现有 $(held) 条" \
  "  the union was told to delete 5 records, did so and signed 5 receipts; it holds $(held) now"

# ---- summary ---------------------------------------------------------------------------------------------

chapter "小结" "Summary"
say "  $persons 人的登记簿已发布，公安收到 $(wc -l <"$dir/police.jsonl") 条，每条都已核验。" \
  "  Registers of $persons people published; police received $(wc -l <"$dir/police.jsonl") records, each verified."
say "  同意回执：$PWD/$dir/receipt.json" "  Consent receipt: $PWD/$dir/receipt.json"
say "  A4 数据核验单：$PWD/$dir/sheet.html" "  A4 sheet (数据核验单): $PWD/$dir/sheet.html"
say "  材料包：$PWD/$dir/bundle.json" "  Bundle: $PWD/$dir/bundle.json"
say "  被拒的行（含值，仅本人可读）：$PWD/$city/rejects" "  Refused rows (with their values, mode 0600): $PWD/$city/rejects"
say "  用时 $((SECONDS - begun)) 秒（不含编译）" "  $((SECONDS - begun)) s without the build"
if [ "$keep" = yes ]; then
  trap - EXIT INT TERM
  say "  仍在运行。停止：kill ${services[*]}; $bin --dir $dir stack down" \
    "  Still running. To stop: kill ${services[*]}; $bin --dir $dir stack down"
fi
