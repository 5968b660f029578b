# The remote job of the chaos tests: writes down that it runs, and runs until the test lets it go.
folder=$1
say() { echo "$1 ${POLYAXON_RUN_INSTANCE##*.} $(date +%s.%N)" >> "$folder/events"; }
trap 'say stopped; exit 143' TERM
say start
count=0
while [ $count -lt 400 ]; do
  count=$((count + 1))
  echo "line $count"
  sleep 1
  if [ -e "$folder/fail" ] && [ $count -ge 3 ]; then rm "$folder/fail"; say failed; exit 1; fi
  if [ -e "$folder/finish" ] && [ $count -ge 3 ]; then say end; exit 0; fi
done
say failed
exit 1
