mkdir -p dir/sub/deep; echo b >dir/sub/b; echo c >dir/sub/deep/c; echo x >x; chmod 750 dir/sub
