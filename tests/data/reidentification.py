"""Small folders in the layouts of SYSU-MM01 and RegDB; the pictures are empty files, since readers only name them."""


def sysu(folder, seen, each=3, train=(1,), val=()):
    """``seen`` maps a person to the cameras that saw it."""
    for person, cameras in seen.items():
        for camera in cameras:
            place = folder / f"cam{camera}" / f"{person:04d}"
            place.mkdir(parents=True)
            for number in range(1, each + 1):
                (place / f"{number:04d}.jpg").touch()
    (folder / "exp").mkdir()
    lists = {"train": train, "val": val, "test": [p for p in seen if p not in (*train, *val)]}
    for part, people in lists.items():
        (folder / "exp" / f"{part}_id.txt").write_text(",".join(map(str, people)))
    return folder


def regdb(folder, people=4, each=3, trials=2, left_out=0):
    """In trial t the people t, t + 1, ... are learned from, half of all; labels number the people of each list."""
    names = {}
    for person in range(people):
        for side in ("visible", "thermal"):
            place = folder / side.title() / str(person + 1)
            place.mkdir(parents=True)
            for number in range(each):
                if side == "thermal" and person == 0 and number < left_out:
                    continue
                file = place / f"female_back_{side[0]}_{number:05d}_{person + 1}.bmp"
                file.touch()
                names.setdefault((person, side), []).append(file.relative_to(folder).as_posix())
    (folder / "idx").mkdir()
    for trial in range(1, trials + 1):
        train = {(trial + k) % people for k in range(people // 2)}
        for part, chosen in (("train", sorted(train)), ("test", sorted(set(range(people)) - train))):
            for side in ("visible", "thermal"):
                lines = [f"{name} {k}" for k, person in enumerate(chosen) for name in names.get((person, side), ())]
                (folder / "idx" / f"{part}_{side}_{trial}.txt").write_text("\n".join(lines) + "\n")
    return folder
