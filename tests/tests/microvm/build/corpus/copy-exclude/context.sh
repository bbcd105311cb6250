mkdir -p dir/sub dir/keep; for f in a.txt a.log dir/b.txt dir/b.log dir/sub/c.txt dir/keep/d.log dir/keep/d.txt; do echo $f >$f; done
