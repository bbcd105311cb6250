mkdir dir; echo s >dir/s; echo g >dir/g; chmod 4755 dir/s; chmod 2711 dir/g; mkdir dir/sg; chmod 2750 dir/sg
