mkdir -p tree/gone/in tree/again/old tree/kind tree/from/in
for file in file gone/in/a again/old/b kind/c other from/in/d; do echo $file >tree/$file; done
