mkdir -p dir/keep dir/drop sub/temp sub/deep/temp; for f in a.log important.log a.txt secret dir/x dir/keep/y dir/drop/z sub/temp/t sub/s sub/a.log sub/deep/temp/u; do echo $f >$f; done
