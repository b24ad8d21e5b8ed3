def draw(folder, claims, progress):
    return ""
