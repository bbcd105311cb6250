echo 1 >"a[1].txt"; echo 2 >"b*"; echo 3 >bc
