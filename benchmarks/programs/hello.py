def handler(event):
    return {"hello": event.get("name", "world")}
